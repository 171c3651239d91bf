# One image for every function; the function's command names its handler.
# Plain instructions only: BuildKit and the classic builder, on x86_64 and arm64, build the same.
ARG BASE_IMAGE=public.ecr.aws/lambda/python:3.13

FROM ${BASE_IMAGE} AS build
WORKDIR /build
COPY infra/uv.txt ./
RUN python3 -m pip install --quiet --no-cache-dir --root-user-action=ignore --require-hashes --requirement uv.txt

# What uv.lock says, by hash, and wheels alone: nothing is resolved or compiled, and no package's code runs for it.
# The platform is named since the base (Amazon Linux 2023, glibc 2.34) is what the wheels must fit.
# The .dist-info folders stay: they hold the licences, and scanners read there what the image is made of.
COPY pyproject.toml uv.lock ./
RUN uv export --quiet --frozen --no-dev --no-emit-project --output-file requirements.txt \
    && uv pip install --quiet --python python3 --target dependencies \
        --require-hashes --only-binary :all: --python-platform "$(uname -m)-manylinux_2_28" \
        --requirements requirements.txt \
    && rm -rf dependencies/bin dependencies/.lock

# What no function reads: botocore's descriptions of the 400 AWS services but three, boto3's of its resource classes,
# and the C files that the injector's wheel was compiled from. botocore looks through all those folders, three times,
# before it builds a client. An adapter that calls another service through it adds that folder here; until then its
# function does not start, and says why (UnknownServiceError).
RUN cd dependencies/botocore \
    && mv data all && mkdir data && mv all/*.json all/dynamodb all/events all/sqs data && rm -r all \
    && rm -rf ../boto3/data ../boto3/examples \
    && rm -f ../dependency_injector/*.c

# Amazon's own certificate authorities, from certifi's bundle: app/adapters/dynamodb/direct/trust.py says why.
RUN uv export --quiet --frozen --only-group image --no-emit-project --output-file tools.txt \
    && uv pip install --quiet --python python3 --target tools \
        --require-hashes --only-binary :all: --requirements tools.txt \
    && python3 -c 'import re; \
name = r"(?:Amazon Root CA [1-4]|Starfield Services Root Certificate Authority - G2)"; \
bundle = open("tools/certifi/cacert.pem").read(); \
roots = re.findall(rf"# Label: \"{name}\"\n.*?-----END CERTIFICATE-----\n", bundle, re.DOTALL); \
assert len(roots) == 5, f"{len(roots)} roots"; \
open("amazon_roots.pem", "w").writelines(roots)'

# A function can't write beside its code, so byte code that is missing is compiled at every cold start; and
# the usual kind is checked against its source at every import. This kind is taken as it is. The prefix is
# where the code ends up: tracebacks name it. Lambda runs the code as a user of its own: all may read.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash \
        -s dependencies -p "${LAMBDA_TASK_ROOT}" dependencies \
    && chmod -R a=rX dependencies
COPY app app
# The handshakes run their container's compiled form: app/containers/compile.py says why.
RUN PYTHONPATH=dependencies python3 -B -c 'from app.containers.compile import compile_container; \
from app.containers.handshakes import Handshakes; \
open("app/containers/compiled.py", "w").write( \
compile_container(Handshakes, "open_connection", "close_connection", first=("transport",)))' \
    && tools/bin/ruff check --quiet --fix --select I app/containers/compiled.py \
    && tools/bin/ruff format --quiet app/containers/compiled.py
RUN cp amazon_roots.pem app/adapters/dynamodb/direct/ \
    && python3 -m compileall -q --invalidation-mode unchecked-hash -p "${LAMBDA_TASK_ROOT}" app \
    && chmod -R a=rX app

FROM ${BASE_IMAGE}
# The dependencies first: they change less often, so that most pushes send app/ alone.
COPY --from=build /build/dependencies ${LAMBDA_TASK_ROOT}
COPY --from=build /build/app ${LAMBDA_TASK_ROOT}/app
CMD ["app.entrypoints.aws_lambda.handler"]
