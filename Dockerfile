# Two stages: the first builds one binary, the second holds nothing but that. Nothing is downloaded when it runs.
FROM rust:1-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN useradd --system --create-home --home-dir /data showcart
COPY --from=build /build/target/release/showcart /usr/local/bin/showcart
USER showcart
WORKDIR /data
ENV LISTEN=0.0.0.0:8080 DATA_DIR=/data
EXPOSE 8080
VOLUME /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["showcart"]
CMD ["serve"]
