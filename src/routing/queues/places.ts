/** With more places than this, the memory of those that were left is given back. */
const MOST_LEFT = 1_024;

/**
 * The places of a model's waiting requests among the requests of all models, by sequence number.
 *
 * Priority orders the requests of one model, and must neither gain nor cost the model a place among the others. So a
 * request that goes before older ones of its model takes the first place, and leaves its own to the others.
 */
export class Places {
  /** From `#first` up to `#end` in order. A place in between that was given up is `-1 - place`. */
  readonly #places: number[] = [];
  #first = 0;
  #end = 0;

  /** Undefined when no request waits. */
  get first(): number | undefined {
    return this.#first === this.#end ? undefined : this.#places[this.#first];
  }

  /** A request begins to wait. One that comes back from a failed replica is not behind the others. */
  add(sequence: number): void {
    const { first } = this;
    if (first === undefined || sequence > (this.#places[this.#end - 1] as number)) {
      this.#places[this.#end] = sequence;
      this.#end += 1;
      return;
    }
    const place = Math.min(sequence, first);
    if (this.#first === 0) {
      this.#places.unshift(place);
      this.#end += 1;
    } else {
      this.#first -= 1;
      this.#places[this.#first] = place;
    }
  }

  /** A request is given to a replica. */
  takeFirst(): void {
    this.#first += 1;
    this.#trim();
  }

  /** The request with this sequence number is over: its place is given up, or the first one if its own was taken. */
  giveUp(sequence: number): void {
    const index = this.#indexOf(sequence);
    if (this.#places[index] !== sequence || index >= this.#end) this.#first += 1;
    else this.#places[index] = -1 - sequence;
    this.#trim();
  }

  /** The index of the first place that is not before this one. */
  #indexOf(sequence: number): number {
    let low = this.#first;
    let high = this.#end;
    while (low < high) {
      const middle = (low + high) >> 1;
      const place = this.#places[middle] as number;
      if ((place < 0 ? -1 - place : place) < sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The first and the last place are never ones that were given up. */
  #trim(): void {
    while (this.#first < this.#end && (this.#places[this.#first] as number) < 0) this.#first += 1;
    while (this.#first < this.#end && (this.#places[this.#end - 1] as number) < 0) this.#end -= 1;
    if (this.#first === this.#end) {
      this.#first = 0;
      this.#end = 0;
      if (this.#places.length > MOST_LEFT) this.#places.length = 0;
    } else if (this.#first > MOST_LEFT && 2 * this.#first > this.#end) {
      this.#places.splice(0, this.#first);
      this.#end -= this.#first;
      this.#first = 0;
    }
  }
}
