/** Escapes control characters: text from files and folders must not steer the terminal. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => JSON.stringify(character).slice(1, -1));
}

/** The message of whatever was thrown, on one line. */
export function messageOf(error: unknown): string {
  const { message } = (error ?? {}) as { readonly message?: unknown };
  return String(message ?? error)
    .replace(/\s+/g, ' ')
    .trim();
}

/** The text as messages show it, in quotes and on one line. */
export function quoted(text: string): string {
  return JSON.stringify(text);
}
