/**
 * Whether a server that can be reached does not let our page speak with it. The browser hides the reason of a refusal, so two
 * questions find it: one whose answer may not be read, which shows that the server is there, and one whose answer may.
 */
export async function isRefusedHere(server: string): Promise<boolean> {
  const { origin } = new URL(server, location.href);
  if (origin === location.origin) return false;
  const address = `${server.replace(/\/+$/, "")}/healthz`;
  const isAnswered = (mode: RequestMode) =>
    fetch(address, { mode, cache: "no-store", credentials: "omit" }).then(
      () => true,
      () => false,
    );
  return (await isAnswered("no-cors")) && !(await isAnswered("cors"));
}
