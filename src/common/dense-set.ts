/**
 * A set as an array without holes, for walking and for drawing at random.
 *
 * An item that is removed for now stays a key of the table of positions, because it comes back with the next dispatch.
 * V8 gives a Map or a Set a new table after a few deletions, and the outgrown table holds on to its successor: as soon
 * as one table is in the old generation, all later ones get there as well, and the whole heap is collected again and
 * again.
 */
export class DenseSet<T> {
  readonly #items: T[] = [];
  /** -1 for an item that is not in the set at present. */
  readonly #positions = new Map<T, number>();

  get items(): readonly T[] {
    return this.#items;
  }

  has(item: T): boolean {
    return (this.#positions.get(item) ?? -1) !== -1;
  }

  add(item: T): void {
    if (this.has(item)) return;
    this.#positions.set(item, this.#items.length);
    this.#items.push(item);
  }

  /** Removes the item for now. */
  remove(item: T): void {
    const position = this.#positions.get(item) ?? -1;
    if (position === -1) return;
    this.#positions.set(item, -1);
    const last = this.#items.pop() as T;
    if (last === item) return;
    this.#items[position] = last;
    this.#positions.set(last, position);
  }

  /** Removes the item for good. */
  delete(item: T): void {
    this.remove(item);
    this.#positions.delete(item);
  }
}
