# The service alone: Postgres and the engine are containers of their own (see docker-compose.yml).
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /footnote ./cmd/footnote

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /footnote /footnote
ENV FOOTNOTE_ADDR=0.0.0.0:8080 FOOTNOTE_DATA_DIR=/tmp/footnote FOOTNOTE_CACHE_DIR=/tmp/footnote-cache
EXPOSE 8080
ENTRYPOINT ["/footnote"]
CMD ["serve"]
