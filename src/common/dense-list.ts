/** An item of a {@link DenseList}. */
export interface Positioned {
  /** Where it is in its list; undefined when it is in none. */
  position: number | undefined;
}

/**
 * A list from which items leave at any place, in no order. Each item knows its position.
 *
 * A Set would be simpler. But V8 gives a Set a new table after a few deletions, and the outgrown one holds on to what was
 * in it: as soon as one table is in the old generation, the items of all later ones get there as well, and the whole heap
 * is collected again and again. For requests that cost a quarter of the calling thread's time.
 */
export class DenseList<T extends Positioned> {
  readonly #items: T[] = [];

  get items(): readonly T[] {
    return this.#items;
  }

  add(item: T): void {
    item.position = this.#items.push(item) - 1;
  }

  /** @returns false when the item is not in the list. */
  remove(item: T): boolean {
    const { position } = item;
    if (position === undefined) return false;
    const last = this.#items.pop() as T;
    if (last !== item) {
      this.#items[position] = last;
      last.position = position;
    }
    item.position = undefined;
    return true;
  }
}
