/**
 * A binary heap that knows the positions of its items, so that any item can be deleted or moved in O(log n).
 * `isBefore` must be a strict order; ties come out in no particular order.
 */
export class IndexedHeap<T> {
  readonly #isBefore: (left: T, right: T) => boolean;
  readonly #items: T[] = [];
  readonly #positions = new Map<T, number>();

  constructor(isBefore: (left: T, right: T) => boolean) {
    this.#isBefore = isBefore;
  }

  get size(): number {
    return this.#items.length;
  }

  has(item: T): boolean {
    return this.#positions.has(item);
  }

  /** Returns the first item and keeps it. */
  peek(): T | undefined {
    return this.#items[0];
  }

  /** Returns the item after the first one and keeps it. */
  peekSecond(): T | undefined {
    const second = this.#firstChild(0);
    return second === undefined ? undefined : this.#items[second];
  }

  pop(): T | undefined {
    const first = this.#items[0];
    if (first !== undefined) this.delete(first);
    return first;
  }

  /** Adds the item, or moves it to its new place. */
  set(item: T): void {
    const position = this.#positions.get(item) ?? this.#items.length;
    this.#place(item, position);
    this.#settle(item);
  }

  /** @returns false when the item was not there. */
  delete(item: T): boolean {
    const position = this.#positions.get(item);
    if (position === undefined) return false;
    this.#positions.delete(item);
    const last = this.#items.pop() as T;
    if (last !== item) {
      this.#place(last, position);
      this.#settle(last);
    }
    return true;
  }

  #settle(item: T): void {
    let position = this.#positions.get(item) as number;
    while (position > 0) {
      const parent = (position - 1) >> 1;
      if (!this.#swapIfBefore(item, position, parent)) break;
      position = parent;
    }
    for (let child = this.#firstChild(position); child !== undefined; child = this.#firstChild(position)) {
      const other = this.#items[child] as T;
      if (!this.#isBefore(other, item)) return;
      this.#place(other, position);
      this.#place(item, child);
      position = child;
    }
  }

  #swapIfBefore(item: T, position: number, parent: number): boolean {
    const other = this.#items[parent] as T;
    if (!this.#isBefore(item, other)) return false;
    this.#place(other, position);
    this.#place(item, parent);
    return true;
  }

  #firstChild(position: number): number | undefined {
    const left = 2 * position + 1;
    const right = left + 1;
    if (left >= this.#items.length) return undefined;
    if (right >= this.#items.length) return left;
    return this.#isBefore(this.#items[right] as T, this.#items[left] as T) ? right : left;
  }

  #place(item: T, position: number): void {
    this.#items[position] = item;
    this.#positions.set(item, position);
  }
}
