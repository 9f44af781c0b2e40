# The image that jobs run in: one interpreter, the core dependencies, our flows and tasks.
# Classic builder only: the engine on Debian 12 is 20.10, without BuildKit.
ARG BASE_IMAGE=python:3.12-slim

# --- The requirements: copied by content, so a change elsewhere in pyproject.toml or in the
# --- lock's development part does not install everything again.
FROM ${BASE_IMAGE} AS requirements
WORKDIR /requirements
COPY pyproject.toml requirements.lock deployments/image_requirements.py ./
RUN python3 image_requirements.py core pyproject.toml requirements.lock > core.txt \
    && python3 image_requirements.py build pyproject.toml requirements.lock > build.txt

# --- The dependencies. pip and setuptools work from a virtual environment that is left behind.
FROM ${BASE_IMAGE} AS dependencies
COPY --from=requirements /requirements/core.txt /requirements/build.txt /requirements/
RUN set -eu; \
    python3 -m venv /opt/build; \
    python3 -m venv --without-pip /opt/venv; \
    pip() { /opt/build/bin/python -m pip --disable-pip-version-check --no-cache-dir "$@"; }; \
    locked="--require-hashes --no-deps --only-binary :all: --no-binary pyvips --timeout 60"; \
    pip install --quiet $locked -r /requirements/build.txt; \
    # pyvips comes as source only. Without isolation it is built by the setuptools of the lock, and
    # without cffi and pkgconfig beside it, as plain Python: the compiled half is in pyvips-binary.
    pip wheel --quiet $locked --no-build-isolation -w /wheels -r /requirements/core.txt; \
    pip --python /opt/venv/bin/python install --quiet --no-index --no-deps --no-compile \
        /wheels/*.whl; \
    pip --python /opt/venv/bin/python check; \
    cd "$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"; \
    # Tests, and what only compilers read.
    find . -depth -type d -name tests -exec rm -rf {} +; \
    find . -type f \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.h' \
        -o -name '*.c' -o -name '*.cc' -o -name '*.cpp' -o -name '*.hpp' \) -delete; \
    rm -rf pyarrow/include pyarrow/includes pyarrow/src; \
    # Copies of one library under three names (programs link to the middle one), and Arrow Flight,
    # a network protocol, which nothing else in pyarrow links to.
    rm -f pyarrow/libarrow_python*.so pyarrow/libarrow_python*.so.*.*.* \
        pyarrow/*flight*.so* pyarrow/_pyarrow_cpp_tests*.so; \
    # The server's two web UIs: a job never serves them.
    rm -rf prefect/server/ui prefect/server/ui-v2; \
    # 400 descriptions of AWS services: jobs read S3, and sign in.
    find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sts ! -name sso \
        ! -name sso-oidc ! -name signin ! -name secretsmanager -exec rm -rf {} +; \
    # At run time nothing can be written, so every module is compiled here, or at each start: but one
    # of whenever's, which is Python 3.12's own syntax and imported there alone.
    /opt/venv/bin/python -m compileall -q -j 0 -x '/whenever/_typing_312\.py$' .
# What was removed is not missed.
RUN /opt/venv/bin/python -B -c "import prefect.engine, prefect.flow_engine, prefect.flows, \
prefect.artifacts, prefect.filesystems, prefect_aws, prefect_docker.credentials, confluent_kafka, pyvips, pi_heif, numpy, numba, pyarrow.compute, pyarrow.csv, \
pyarrow.dataset, pyarrow.fs, pyarrow.parquet, boto3; boto3.client('s3', region_name='us-east-1')"

# --- The image itself.
FROM ${BASE_IMAGE}
LABEL prefecture.image=job
# The official Python images come without the standard library's bytecode; Debian's has it already.
RUN python3 -m compileall -q -j 0 -x '/(tests?|lib2to3|idlelib|ensurepip|(site|dist)-packages)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && groupadd --gid 10001 prefecture \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp \
        --shell /usr/sbin/nologin prefecture
# A container has a read-only root, a tmpfs at /tmp, and perhaps a user that no passwd file knows.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    PREFECT_HOME=/tmp/prefect
COPY --from=dependencies /opt/venv /opt/venv
WORKDIR /opt/prefecture
COPY flows flows
COPY tasks tasks
# The supervisor stays outside: it needs the engine's socket, which no job has.
COPY work_pools/__init__.py work_pools/
COPY work_pools/entrypoint work_pools/entrypoint
COPY work_pools/forking work_pools/forking
RUN python -m compileall -q . && NUMBA_CACHE_DIR=compiled python -B -m tasks.averages.reading.warm
USER 10001:10001
CMD ["python", "-m", "work_pools.entrypoint.run"]
