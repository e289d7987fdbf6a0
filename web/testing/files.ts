import { createHash } from "node:crypto";
import { createServer, type Server as HttpServer } from "node:http";
import { readFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";

/** What a server says with every page: nothing but its own files runs, and the script that stands in a page. */
const policy = (scripts: readonly string[]) =>
  [
  "default-src 'none'",
  `script-src ${["'self'", ...scripts].join(" ")}`,
  "style-src 'self'",
  "connect-src 'self' http: https: ws: wss:",
  "img-src https: http: data:",
  "media-src 'self' https: http: blob:",
  "font-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** The sources that allow the scripts in a page. */
const inline = (html: string): string[] =>
  [...html.matchAll(/<script(?![^>]*\ssrc=)[^>]*>([^]+?)<\/script>/g)].map(
    ([, code]) => `'sha256-${createHash("sha256").update(String(code)).digest("base64")}'`,
  );

const KINDS: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".map": "application/json",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".webm": "video/webm",
  ".mp4": "video/mp4",
  ".m3u8": "application/vnd.apple.mpegurl",
};
/** Addresses of pages, as a Showcart server has them. */
const PAGES: Record<string, string> = {
  "/": "/index.html",
  "/desk": "/desk.html",
  "/dashboard": "/dashboard.html",
  "/embed": "/embed.html",
};

export interface FilesOptions {
  readonly root?: string;
  readonly extra?: Readonly<Record<string, Buffer | string>>;
  readonly policies?: Readonly<Record<string, string>>;
}

/**
 * Serves what was built, as a Showcart server does, from an address of its own. `extra` are files that a test brings, and
 * `policies` what is said with some paths in place of the usual policy; both are looked at with each request.
 */
export class Files {
  readonly url: string;
  readonly #http: HttpServer;

  private constructor(url: string, http: HttpServer) {
    this.url = url;
    this.#http = http;
  }

  static async serve({
    root = "../dist",
    extra = {},
    policies = {},
  }: FilesOptions = {}): Promise<Files> {
    const http = createServer((request, response) => {
      const path = new URL(request.url ?? "/", "http://localhost").pathname;
      const headers = {
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
        "access-control-allow-origin": "*",
      };
      const given = extra[path];
      const file = PAGES[path] ?? normalize(path);
      (given === undefined ? readFile(join(root, file)) : Promise.resolve(given)).then(
        (body) =>
          response
            .writeHead(200, {
              ...headers,
              "content-security-policy": policies[path] ?? policy(file.endsWith(".html") ? inline(String(body)) : []),
              "content-type": KINDS[extname(file)] ?? "application/octet-stream",
            })
            .end(body),
        () => response.writeHead(404, headers).end(),
      );
    });
    await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
    return new Files(`http://127.0.0.1:${(http.address() as AddressInfo).port}`, http);
  }

  async stop(): Promise<void> {
    this.#http.closeAllConnections();
    await new Promise((resolve) => this.#http.close(resolve));
  }
}
