# The gateway in a container. The configuration is mounted at /etc/talaria/talaria.yaml:
#
#   docker build -t talaria .
#   docker run -p 8080:8080 -v "$PWD/talaria.yaml:/etc/talaria/talaria.yaml:ro" -e OPENAI_API_KEY talaria
#
# `listen` must be a container's: "0.0.0.0:8080". What must last is in /var/lib/talaria (the default ledger is there).
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=/opt/talaria
WORKDIR /src
COPY .ci/tools.txt .ci/tools.txt
RUN python -m venv /opt/tools && /opt/tools/bin/pip install --require-hashes -r .ci/tools.txt
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN /opt/tools/bin/uv sync --frozen --no-dev --no-install-project --python "$(command -v python)"
COPY deploy/talaria.example.yaml deploy/talaria.example.yaml
COPY gateway gateway
COPY providers providers
COPY routing routing
RUN /opt/tools/bin/uv sync --frozen --no-dev --no-editable --python "$(command -v python)"

FROM ${BASE}
COPY --from=build /opt/talaria /opt/talaria
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin talaria \
    && mkdir -p /etc/talaria /var/lib/talaria && chown 10001:10001 /var/lib/talaria
ENV PATH=/opt/talaria/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/talaria
VOLUME /var/lib/talaria
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health/live', timeout=2)"]
ENTRYPOINT ["talaria"]
CMD ["serve", "--config", "/etc/talaria/talaria.yaml"]
