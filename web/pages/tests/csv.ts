/** Reads RFC 4180, so that what is written can be checked by somebody else than its writer. */
export function parsed(text: string): string[][] {
  const rows: string[][] = [];
  let [row, field, isQuoted]: [string[], string, boolean] = [[], "", false];
  for (let at = 0; at < text.length; at += 1) {
    const letter = text[at];
    if (isQuoted) {
      if (letter !== '"') field += letter;
      else if (text[at + 1] === '"') [field, at] = [field + '"', at + 1];
      else isQuoted = false;
    } else if (letter === '"') isQuoted = true;
    else if (letter === ",") [row, field] = [[...row, field], ""];
    else if (letter === "\r" && text[at + 1] === "\n") {
      rows.push([...row, field]);
      [row, field, at] = [[], "", at + 1];
    } else field += letter;
  }
  if (row.length > 0 || field !== "" || isQuoted) throw new Error("The text ends within a line.");
  return rows;
}
