# One image for every function; the function's command names its handler.
# Plain instructions only: BuildKit and the classic builder, on x86_64 and arm64, build the same.
ARG BASE_IMAGE=public.ecr.aws/lambda/python:3.13

FROM ${BASE_IMAGE} AS build
WORKDIR /build
RUN python3 -m pip install --quiet --no-cache-dir --root-user-action=ignore uv==0.13.9

# What uv.lock says, by hash, and wheels alone: nothing is resolved or compiled here, no package's code runs.
# The platform is named since the base (Amazon Linux 2023, glibc 2.34) is what the wheels must fit.
# The .dist-info folders stay: they hold the licences, and scanners read there what the image is made of.
COPY pyproject.toml uv.lock ./
RUN uv export --quiet --frozen --no-dev --no-emit-project --output-file requirements.txt \
    && uv pip install --quiet --python python3 --target dependencies \
        --require-hashes --only-binary :all: --python-platform "$(uname -m)-manylinux_2_28" \
        --requirements requirements.txt \
    && rm -rf dependencies/bin dependencies/.lock

# botocore looks through the folders of all 400 AWS services, and more than once, before it builds a client for
# one: 28 of the 68 ms of CPU that the client takes at a cold start, and 18 of 42 MB. An adapter that calls
# another service adds its folder here; until then its function does not start and says why
# (UnknownServiceError). The C files, 12 MB, are what the injector's wheel was compiled from.
RUN cd dependencies/botocore \
    && mv data all && mkdir data && mv all/*.json all/dynamodb data && rm -r all \
    && rm -f ../dependency_injector/*.c

# A function can't write beside its code, so byte code that is missing is compiled at every cold start; and
# the usual kind is checked against its source at every import. This kind is taken as it is. The prefix is
# where the code ends up: tracebacks name it. Lambda runs the code as a user of its own: all may read.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash \
        -s dependencies -p "${LAMBDA_TASK_ROOT}" dependencies \
    && chmod -R a=rX dependencies
COPY app app
RUN python3 -m compileall -q --invalidation-mode unchecked-hash -p "${LAMBDA_TASK_ROOT}" app \
    && chmod -R a=rX app

FROM ${BASE_IMAGE}
# The dependencies first: they change less often, so that most pushes send app/ alone.
COPY --from=build /build/dependencies ${LAMBDA_TASK_ROOT}
COPY --from=build /build/app ${LAMBDA_TASK_ROOT}/app
CMD ["app.entrypoints.aws_lambda.handler"]
