/** What the viewer page says when the rest of it cannot be loaded. */
export const texts = {
  failed: "The show could not be loaded.",
  again: "Try again",
};
