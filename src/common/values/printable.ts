/**
 * Characters that steer a terminal, begin a line, turn the direction of the text around it, or cannot be seen: controls,
 * formats, halves of surrogate pairs, line and paragraph separators.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
/** Most texts are like this, and are found to be so much faster. */
const PLAIN = /^[ -~]*$/;
const UNPRINTABLE_IN_LINES = /(?!\n)[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/**
 * Escapes what a terminal or a log must not get from outside, as JSON does: a line feed becomes `\n`, an escape
 * `\u001b`. Other text stays as it is.
 */
export function printable(text: string): string {
  return PLAIN.test(text) ? text : text.replace(UNPRINTABLE, escaped);
}

/** {@link printable} for text of several lines: line feeds stay. */
export function printableLines(text: string): string {
  return PLAIN.test(text) ? text : text.replace(UNPRINTABLE_IN_LINES, escaped);
}

function escaped(character: string): string {
  const json = JSON.stringify(character).slice(1, -1);
  if (json !== character) return json;
  const units = Array.from({ length: character.length }, (_, index) => character.charCodeAt(index));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
}

/** {@link printable}, with at most so many characters. A text may become longer when it is escaped. */
export function printableUpTo(text: string, most: number): string {
  return cut(printable(cut(text, most)), most);
}

/** Returns the text, or its beginning with `...` when it has more than `most` characters. */
export function cut(text: string, most: number): string {
  if (text.length <= most) return text;
  const end = most - 3;
  // Half a surrogate pair is no character.
  const isInPair = (text.codePointAt(end - 1) as number) > 0xffff;
  return `${text.slice(0, isInPair ? end - 1 : end)}...`;
}
