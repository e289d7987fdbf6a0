// The picture is seconds late; so is what is shown over it.
import { connect, type PictureTime, type Show } from "@showcart/sdk";

/** hls.js: a stream with EXT-X-PROGRAM-DATE-TIME has the programme time of its picture. */
export function besideHls(showId: string, hls: { readonly playingDate: Date | null }): Show {
  return connect({ server: "https://live.shop.example", showId, pictureTime: () => hls.playingDate });
}

/** Safari plays HLS by itself. */
export function pictureOf(video: HTMLVideoElement & { getStartDate?(): Date }): PictureTime {
  return () => {
    const start = video.getStartDate?.().getTime();
    return start === undefined ? null : start + video.currentTime * 1000;
  };
}
