import type { Browser } from "playwright-core";

/** Flat drawings in warm colours, in place of a shop's photographs. */
export function pictures(): Record<string, string> {
  const sheet = (ground: string, shapes: string) =>
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 200"><rect width="200" height="200" fill="${ground}"/>${shapes}</svg>`;
  return {
    "/lamp.svg": sheet(
      "#E9DFC8",
      `<path d="M0 150h200v50H0z" fill="#B98E5E"/><path d="M70 40h60l22 58H48z" fill="#D08A2E"/><path d="M94 98h12v42H94z" fill="#3A342A"/><ellipse cx="100" cy="146" rx="34" ry="9" fill="#3A342A"/>`,
    ),
    "/jug.svg": sheet(
      "#D9DED8",
      `<path d="M0 150h200v50H0z" fill="#8C8676"/><path d="M70 50h56c4 26 20 42 20 74 0 20-14 34-48 34s-48-14-48-34c0-32 16-48 20-74z" fill="#F4EFE4"/><path d="M128 62c34-2 38 44 12 54" fill="none" stroke="#F4EFE4" stroke-width="10"/><path d="M62 112c24 8 52 8 82 0v14c0 20-14 32-46 32s-46-12-46-32z" fill="#4D6B5E"/>`,
    ),
    "/rug.svg": sheet(
      "#CDBFA6",
      `<path d="M50 20h100v160H50z" fill="#F1E9D8"/><path d="M50 40h100v10H50zM50 150h100v10H50z" fill="#7C3B2A"/><path d="M100 70l26 30-26 30-26-30z" fill="#2F4A46"/><path d="M54 12v8M66 12v8M78 12v8M90 12v8M102 12v8M114 12v8M126 12v8M138 12v8M148 12v8M54 180v8M66 180v8M78 180v8M90 180v8M102 180v8M114 180v8M126 180v8M138 180v8" stroke="#F1E9D8" stroke-width="3"/>`,
    ),
    "/bowl.svg": sheet(
      "#EFE7DA",
      `<path d="M0 140h200v60H0z" fill="#5B6E58"/><path d="M30 92h140c0 44-30 66-70 66s-70-22-70-66z" fill="#A56B34"/><ellipse cx="100" cy="92" rx="70" ry="16" fill="#7E4D20"/>`,
    ),
  };
}

/** A stage, as a short film: somebody at a table with a lamp. Drawn and recorded by the browser, because there is no camera. */
export async function video(
  browser: Browser,
  type: "video/webm" | "video/mp4;codecs=avc1.42E01F" = "video/webm",
): Promise<Buffer> {
  const page = await browser.newPage();
  const base64 = await page.evaluate(async (mimeType) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 720, height: 1280 });
    const context = canvas.getContext("2d");
    if (context === null) throw new Error("no canvas");
    const shape = (fill: string, path: string) => {
      context.fillStyle = fill;
      context.fill(new Path2D(path));
    };
    const draw = (turn: number) => {
      shape("#B9AD96", "M0 0H720V1280H0z");
      shape("#A4977E", "M0 0H720V560H0z");
      shape("#CFC6B3", "M70 90H300V470H70z");
      shape("#8FA3A0", "M84 104H286V456H84z");
      shape("#CFC6B3", "M180 104H190V456H180zM84 276H286V286H84z");
      // A person: hair, face, neck, shirt, arms.
      shape("#2A211B", "M352 330c0-84 54-132 122-132s118 50 118 132c0 60-6 120-26 170H378c-20-50-26-110-26-170z");
      shape("#C98F6B", `M392 344c0-62 34-96 80-96s80 34 80 96c0 66-34 120-80 120s-80-54-80-120z`);
      shape("#B57C59", "M436 440h72v70h-72z");
      shape("#34504C", "M300 860c0-220 40-336 136-356h72c96 20 136 136 136 356z");
      shape("#2B423F", `M300 860c-8-110 0-190 26-250l46 60c-14 50-16 120-8 190z`);
      // The table, and what stands on it.
      shape("#7A5230", "M0 850H720V1280H0z");
      shape("#8E6239", "M0 850H720V890H0z");
      shape("#D99A38", `M${150 + turn} 560h110l44 120H${106 + turn}z`);
      shape("#2B2620", `M${196 + turn} 680h20v150h-20z`);
      shape("#2B2620", `M${136 + turn} 830h140v28H${136 + turn}z`);
      shape("#F0E8D8", "M560 760h84c4 50 14 70 14 100 0 24-18 34-56 34s-56-10-56-34c0-30 10-50 14-100z");
      shape("#C98F6B", "M330 800c60-10 110-4 140 22l-10 38H330z");
    };
    draw(0);
    const recorder = new MediaRecorder(canvas.captureStream(25), { mimeType, videoBitsPerSecond: 2_500_000 });
    const parts: Blob[] = [];
    recorder.ondataavailable = ({ data }) => void parts.push(data);
    const stopped = new Promise((resolve) => (recorder.onstop = resolve));
    recorder.start();
    const start = performance.now();
    await new Promise<void>((resolve) => {
      const next = () => {
        const seconds = (performance.now() - start) / 1000;
        draw(Math.sin(seconds) * 2);
        if (seconds > 2) resolve();
        else requestAnimationFrame(next);
      };
      next();
    });
    recorder.stop();
    await stopped;
    const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    return btoa(text);
  }, type);
  await page.close();
  return Buffer.from(base64, "base64");
}

/**
 * An HLS stream of `seconds`: the same short film again and again, each time with its programme date-time. Gives the files by
 * their addresses for a first picture of the moment `begin`; the playlist is `/stage.m3u8`.
 */
export async function stream(
  browser: Browser,
  seconds: number,
): Promise<(begin: number) => Record<string, Buffer | string>> {
  const film = await video(browser, "video/mp4;codecs=avc1.42E01F");
  // What stands before the first fragment is what a player needs once.
  const first = film.indexOf("moof", 0, "latin1") - 4;
  const length = 2;
  const segment = (begin: number, index: number) => [
    ...(index === 0 ? [] : ["#EXT-X-DISCONTINUITY"]),
    '#EXT-X-MAP:URI="/stage-head.mp4"',
    `#EXT-X-PROGRAM-DATE-TIME:${new Date(begin + index * length * 1000).toISOString()}`,
    `#EXTINF:${length.toFixed(3)},`,
    `/stage-body.mp4?${index}`,
  ];
  return (begin) => {
    const segments = Array.from({ length: Math.ceil(seconds / length) }, (_, index) => segment(begin, index));
    const head = ["#EXTM3U", "#EXT-X-VERSION:7", `#EXT-X-TARGETDURATION:${length + 1}`, "#EXT-X-PLAYLIST-TYPE:VOD"];
    return {
      "/stage.m3u8": `${[...head, ...segments.flat(), "#EXT-X-ENDLIST"].join("\n")}\n`,
      "/stage-head.mp4": film.subarray(0, first),
      "/stage-body.mp4": film.subarray(first),
    };
  };
}
