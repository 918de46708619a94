/** Remembers which models have changed, so that a look can tell whether what it saw is out of date. */
export class ChangeLog {
  /** When each model last changed, counted in changes. */
  readonly #changedAt = new Map<string, number>();
  #now = 0;

  /** The number of changes so far. */
  get now(): number {
    return this.#now;
  }

  note(id: string): void {
    this.#now += 1;
    this.#changedAt.set(id, this.#now);
  }

  /** @param since an earlier {@link now}. */
  hasChanged(id: string, since: number): boolean {
    return (this.#changedAt.get(id) ?? 0) > since;
  }

  clear(): void {
    this.#changedAt.clear();
  }
}
