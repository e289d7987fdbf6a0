// Vote, and show how the poll stands.
import { type PollId, RefusedError, type Show } from "@showcart/sdk";

export async function vote(show: Show, pollId: PollId, choice: number): Promise<string> {
  show.gauge(`poll:${pollId}`).subscribe((tally) => console.log(tally?.counts, "of", tally?.total));
  try {
    const counts = await show.vote(pollId, choice);
    return counts === choice ? "Thank you." : "You have voted before.";
  } catch (error) {
    if (error instanceof RefusedError && error.code === "poll_closed") return "The poll has closed.";
    throw error;
  }
}
