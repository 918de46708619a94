/**
 * Call it as soon as there is a stream of somebody else. A `Readable` that fails while nobody reads it would end the
 * process; whoever reads it then is told.
 */
export function keepErrors(stream: unknown): void {
  const { on } = stream as { readonly on?: unknown };
  if (typeof on === 'function') on.call(stream, 'error', () => undefined);
}

/**
 * Reads a stream of somebody else. `return` ends it at once, also before the first item: an iterator of its own would
 * first wait for the item that it is asked for, and leave a stream open that it has not begun.
 *
 * @param stream a web stream, a `Readable` or another async iterable.
 */
export function iteratorOf<T>(stream: AsyncIterable<T>): AsyncIterator<T, undefined> {
  keepErrors(stream);
  const { getReader, destroy } = stream as Partial<ReadableStream<T>> & { readonly destroy?: unknown };
  const over = { done: true, value: undefined } as const;
  if (typeof getReader === 'function') {
    const reader = (stream as unknown as ReadableStream<T>).getReader();
    const next = async () => (await reader.read()) as IteratorResult<T, undefined>;
    return { next, return: async () => reader.cancel().then(() => over) };
  }
  const iterator = stream[Symbol.asyncIterator]() as AsyncIterator<T, undefined>;
  const end = async () => {
    if (typeof destroy === 'function') destroy.call(stream);
    await iterator.return?.();
    return over;
  };
  return { next: () => iterator.next(), return: end };
}
