/** A server-sent event. */
export interface ServerSentEvent {
  /** `message` for events that name none. */
  readonly type: string;
  readonly data: string;
}

/** Yields server-sent events. The format is that of the HTML standard, of which ids and delays are not used. */
export async function* eventsOf(stream: AsyncIterable<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  const decoder = new TextDecoder();
  let rest = '';
  let type = 'message';
  let data: string[] = [];
  for await (const bytes of stream) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split(/\r\n|\n|\r/);
    rest = lines.pop() as string;
    for (const line of lines) {
      const [, field, value = ''] = /^(event|data): ?(.*)$/.exec(line) ?? [];
      if (field === 'event') type = value;
      else if (field === 'data') data.push(value);
      if (line !== '') continue;
      if (data.length > 0) yield { type, data: data.join('\n') };
      [type, data] = ['message', []];
    }
  }
}
