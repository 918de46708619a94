/** A promise that calls back as soon as it settles: the simulation has no event loop for promises to wait for. */
export class Answer<T> implements PromiseLike<T> {
  #settled: (value: T) => unknown = () => undefined;
  #failed: (error: unknown) => unknown = () => undefined;

  // biome-ignore lint/suspicious/noThenProperty: it is what the dispatcher waits for
  then<A, B>(
    settled?: ((value: T) => A | PromiseLike<A>) | null,
    failed?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): PromiseLike<A | B> {
    this.#settled = settled ?? this.#settled;
    this.#failed = failed ?? this.#failed;
    return this as unknown as PromiseLike<A | B>;
  }

  settle(value: T): void {
    this.#settled(value);
  }

  fail(error: unknown): void {
    this.#failed(error);
  }
}
