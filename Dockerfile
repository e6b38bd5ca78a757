# The image of the extender and of the loader: Python, the locked dependencies and the wheel. Build it from the repository's root:
#   docker build --build-arg BASE_IMAGE=python:3.13-slim@sha256:... -t model-cache-extender:0.1.0 .
# BASE_IMAGE has no default: a build says what it stands on, by digest where it is to be had again. Without it every builder
# stops here and names it. Both stages use it, because the virtual environment points at the base's interpreter.
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python3 -m venv /opt/model-cache-extender
# Wheels only: nothing is compiled, and what cannot be had as a wheel fails here instead of bringing a compiler.
COPY requirements.lock ./
RUN /opt/model-cache-extender/bin/pip install --only-binary :all: --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY extender extender
# The build backend that pip fetches here stays in this stage. pip itself leaves the environment at the end: what it holds was
# locked (a pip of the base's own stays in the base). So does the asyncio half of the Kubernetes client, 66 MB that nothing imports.
RUN python3 -m venv /opt/wheel \
 && /opt/wheel/bin/pip wheel --no-deps --wheel-dir /wheels . \
 && /opt/model-cache-extender/bin/pip install --no-deps --no-index /wheels/*.whl \
 && /opt/model-cache-extender/bin/pip uninstall --yes setuptools pip \
 && rm -r /opt/model-cache-extender/lib/python3*/site-packages/kubernetes/aio

FROM ${BASE_IMAGE}
# Once more, so that this stage can name it in a label.
ARG BASE_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="model-cache-extender" \
      org.opencontainers.image.description="A Kubernetes scheduler extender: inference pods start where their model already is." \
      org.opencontainers.image.source="https://github.com/model-cache-extender/model-cache-extender" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
COPY --from=build /opt/model-cache-extender /opt/model-cache-extender
# The root file system is read-only in deploy/: byte code was compiled at installation, and /tmp is a volume there.
ENV PATH=/opt/model-cache-extender/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# By number, so that runAsNonRoot can be checked. 65532 is "nonroot" in the distroless images as well.
USER 65532:65532
# The verbs on loopback; the status listener only where it is asked for.
EXPOSE 8889
ENTRYPOINT ["model-cache-extender"]
