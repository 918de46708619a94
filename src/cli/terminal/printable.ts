/** Controls, formats, halves of surrogate pairs, line and paragraph separators. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
/** Most characters of a text, and most texts, that a message repeats. */
const MOST_CHARACTERS = 100;
const MOST_NAMES = 12;

/** Escapes, as JSON does, what steers a terminal or cannot be seen: a text from outside must not reach it as it is. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => {
    const units = Array.from({ length: character.length }, (_, index) => character.charCodeAt(index));
    const short = JSON.stringify(character).slice(1, -1);
    return short === character ? units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('') : short;
  });
}

/** {@link printable} for text of several lines. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}

/** The message of whatever was thrown, on one line. */
export function messageOf(error: unknown): string {
  const { message } = (error ?? {}) as { readonly message?: unknown };
  return printable(
    String(message ?? error)
      .replace(/\s+/g, ' ')
      .trim(),
  );
}

/** The text as messages show it: in quotes, on one line, and cut when it is long. */
export function quoted(text: string): string {
  const shown = text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)}...` : text;
  return printable(JSON.stringify(shown));
}

/** The names as messages list them. */
export function quotedNames(names: readonly string[]): string {
  const shown = names.slice(0, MOST_NAMES).map(quoted);
  if (names.length > MOST_NAMES) shown.push(`${names.length - MOST_NAMES} more`);
  return shown.join(', ');
}
