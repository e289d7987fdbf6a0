# Three stages: one builds the pages, one the binary, the last holds nothing but these. Nothing is downloaded when it runs.
FROM node:20-bookworm-slim AS pages
WORKDIR /build/web
COPY web .
RUN npm ci --no-audit --no-fund && npm run build

FROM rust:1-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN useradd --system --create-home --home-dir /data showcart
COPY --from=build /build/target/release/showcart /usr/local/bin/showcart
# Without them no webhook of https can be trusted.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=pages /build/web/dist /usr/share/showcart/web
USER showcart
WORKDIR /data
ENV LISTEN=0.0.0.0:8080 DATA_DIR=/data WEB_DIR=/usr/share/showcart/web
EXPOSE 8080
VOLUME /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["showcart"]
CMD ["serve"]
