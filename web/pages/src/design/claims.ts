import type { Role, ShowId } from "@showcart/sdk";

export interface Claims {
  readonly sub: string;
  readonly role: Role | null;
  readonly show: ShowId | null;
}

/** What a token says of itself; the server proves it. */
export function claimsOf(token: string): Claims {
  const text = (it: unknown) => (typeof it === "string" ? it : null);
  try {
    const payload = (token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
    const claims = JSON.parse(
      new TextDecoder().decode(Uint8Array.from(atob(payload), (char) => char.charCodeAt(0))),
    ) as Record<string, unknown>;
    return {
      sub: text(claims["sub"]) ?? "",
      role: text(claims["role"]) as Role | null,
      show: text(claims["show"]) as ShowId | null,
    };
  } catch {
    return { sub: "", role: null, show: null };
  }
}
