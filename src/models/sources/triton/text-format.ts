import { InfermuxError, show } from '../../../common/errors.js';

/** A message in the text format of protobuf: the values of each field, in their order. */
export interface TextMessage {
  readonly [field: string]: readonly TextValue[];
}

/** Numbers are numbers, names of enums and `true` are texts. */
export type TextValue = string | number | TextMessage;

/** Deeper ones are no configurations. */
const MOST_DEPTH = 32;

const TOKEN = /\s+|#[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[\w.+-]+|[{}[\]<>:,;]/y;
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '"': '"', "'": "'", '\\': '\\' };
const CLOSING: Readonly<Record<string, string>> = { '{': '}', '<': '>' };

/**
 * Reads the text format of protobuf without knowing the message: a reader that knows it would refuse fields of other
 * versions.
 *
 * @param where names the text in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` naming the line.
 */
export function parseTextFormat(text: string, where: string): TextMessage {
  return new Parser(text, where).message(undefined, 0);
}

class Parser {
  readonly #text: string;
  readonly #where: string;
  readonly #tokens: { readonly text: string; readonly at: number }[] = [];
  #next = 0;

  constructor(text: string, where: string) {
    this.#text = text;
    this.#where = where;
    TOKEN.lastIndex = 0;
    for (let at = 0; at < text.length; at = TOKEN.lastIndex) {
      const token = TOKEN.exec(text)?.[0];
      if (token === undefined) throw this.#invalid('a field', at);
      if (!/^[\s#]/.test(token)) this.#tokens.push({ text: token, at });
    }
  }

  /** @param end the bracket that closes it; undefined: the end of the text. */
  message(end: string | undefined, depth: number): TextMessage {
    if (depth > MOST_DEPTH) throw this.#invalid('less nesting');
    // A field may have any name.
    const fields: Record<string, TextValue[]> = Object.create(null);
    for (;;) {
      const token = this.#take();
      if (token === end) return fields;
      if (token === undefined || !/^[A-Za-z_][\w.]*$/.test(token)) {
        this.#next -= 1;
        throw this.#invalid(end === undefined ? 'the name of a field' : `the name of a field or ${end}`);
      }
      fields[token] ??= [];
      (fields[token] as TextValue[]).push(...this.#values(depth));
      if (this.#peek() === ',' || this.#peek() === ';') this.#next += 1;
    }
  }

  #values(depth: number): TextValue[] {
    const hasColon = this.#peek() === ':';
    if (hasColon) this.#next += 1;
    if (this.#peek() !== '[') return [this.#value(hasColon, depth)];
    this.#next += 1;
    const values: TextValue[] = [];
    while (this.#peek() !== ']') {
      values.push(this.#value(true, depth));
      if (this.#peek() === ',') this.#next += 1;
      else if (this.#peek() !== ']') throw this.#invalid('a comma or ]');
    }
    this.#next += 1;
    return values;
  }

  #value(mayBeScalar: boolean, depth: number): TextValue {
    const token = this.#take();
    const closing = token === undefined ? undefined : CLOSING[token];
    if (closing !== undefined) return this.message(closing, depth + 1);
    if (token === undefined || !mayBeScalar || /^[}\]>:,;[]$/.test(token)) {
      this.#next -= 1;
      throw this.#invalid('a value');
    }
    if (!/^["']/.test(token)) return Number.isNaN(Number(token)) ? token : Number(token);
    let text = unquoted(token);
    // Strings after one another are one string.
    while (/^["']/.test(this.#peek() ?? '')) text += unquoted(this.#take() as string);
    return text;
  }

  #peek(): string | undefined {
    return this.#tokens[this.#next]?.text;
  }

  #take(): string | undefined {
    const token = this.#peek();
    this.#next += 1;
    return token;
  }

  #invalid(expected: string, at = this.#tokens[this.#next]?.at ?? this.#text.length): InfermuxError {
    const line = this.#text.slice(0, at).split('\n').length;
    const got = at >= this.#text.length ? 'the end' : show(this.#text.slice(at, at + 20));
    return new InfermuxError('INVALID_ARGUMENT', `${this.#where}: expected ${expected} in line ${line}, got ${got}`);
  }
}

function unquoted(token: string): string {
  return token.slice(1, -1).replace(/\\(.)/g, (_, escaped: string) => ESCAPES[escaped] ?? escaped);
}
