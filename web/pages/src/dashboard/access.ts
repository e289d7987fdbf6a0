import { read, write } from "../design/kept.js";

/** Who looks at which show. The token stays in this tab: the address bar, the history and other tabs never have it. */
export interface Access {
  readonly token: string;
  readonly show: string | null;
}

const KEY = "showcart:dashboard";

/** What the address says behind the `#`, which it no longer says then; else what this tab was told before. */
export function access(): Access | null {
  const asked = new URLSearchParams(location.hash.slice(1));
  const before = kept();
  const token = asked.get("token") ?? before?.token ?? null;
  const show = asked.get("show") ?? (asked.has("token") ? null : (before?.show ?? null));
  if (location.hash !== "") history.replaceState(null, "", location.pathname + location.search);
  if (token === null) return null;
  const found = { token, show };
  keep(found);
  return found;
}

export function keep(access: Access | null): void {
  write("sessionStorage", KEY, access === null ? null : JSON.stringify(access));
}

function kept(): Access | null {
  try {
    const found = JSON.parse(read("sessionStorage", KEY) ?? "null") as unknown;
    if (typeof found !== "object" || found === null || !("token" in found) || typeof found.token !== "string") return null;
    return { token: found.token, show: "show" in found && typeof found.show === "string" ? found.show : null };
  } catch {
    return null;
  }
}
