# One image for every process of the stack; docker-compose.yml says which of them runs where.

# As exact as a name can be; STACK_PYTHON_IMAGE in .env names another, or this one by its content.
ARG STACK_PYTHON_IMAGE=python:3.13.15-slim-bookworm

FROM ${STACK_PYTHON_IMAGE} AS build

RUN python -m venv /opt/tidegate
ENV PATH=/opt/tidegate/bin:$PATH
COPY requirements.txt requirements-stack.txt /build/
RUN pip install --no-cache-dir --disable-pip-version-check -r /build/requirements-stack.txt
# The command `tidegate`, a package of its own; what it needs, and what builds it, is there already.
COPY client /build/client
RUN pip install --no-cache-dir --disable-pip-version-check --no-index --no-build-isolation /build/client


FROM ${STACK_PYTHON_IMAGE}

# The proxy before the web containers.
RUN apt-get update -q \
 && apt-get install -y -q --no-install-recommends nginx \
 && rm -rf /var/lib/apt/lists/* /etc/nginx/sites-enabled \
 && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin tidegate

COPY --from=build /opt/tidegate /opt/tidegate
ENV PATH=/opt/tidegate/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TIDEGATE_DATA=/tmp/tidegate

WORKDIR /app
COPY config config
COPY demo demo
COPY migrations migrations
COPY tidegate tidegate
COPY tasks tasks
COPY webapp webapp
RUN python -m compileall -q .

USER tidegate
CMD ["python", "-m", "webapp"]
