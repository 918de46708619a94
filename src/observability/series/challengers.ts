/** A name without a place, and how much it is used. */
export interface Challenger {
  name: string;
  /** Uses since the name is known, decayed. It was used at least so much. */
  rate: number;
  /** The weight of the name whose record this one took over. It was used at most so much more. */
  inherited: number;
}

/**
 * Estimates which of any number of names are used most, in memory for a few (Space-Saving; Metwally, Agrawal and El
 * Abbadi 2005): a new name takes over the record of the least weight, and inherits the weight. With `most` records, a
 * name that has more than one of `most` uses has a record.
 */
export class Challengers {
  readonly #most: number;
  readonly #byName = new Map<string, Challenger>();
  readonly #records: Challenger[] = [];
  /** No record has a smaller weight. */
  #floor = 0;
  /** Where the search for a record at the floor goes on: a search seldom looks at many. */
  #hand = 0;

  /** @param most most names that are kept; at least 1. */
  constructor(most: number) {
    this.#most = most;
  }

  get all(): readonly Readonly<Challenger>[] {
    return [...this.#records];
  }

  used(name: string): void {
    const record = this.#byName.get(name);
    if (record !== undefined) record.rate += 1;
    else if (this.#records.length < this.#most) this.add(name, 1);
    else this.#takeOver(this.#least(), name);
  }

  /** Adds a name that was used that much before. {@link forget} must have made room. */
  add(name: string, rate: number): void {
    const record = { name, rate, inherited: 0 };
    this.#records.push(record);
    this.#byName.set(name, record);
    this.#floor = 0;
  }

  /** @returns the rate that the name had. */
  forget(name: string): number {
    const record = this.#byName.get(name);
    if (record === undefined) return 0;
    this.#byName.delete(name);
    this.#records.splice(this.#records.indexOf(record), 1);
    return record.rate;
  }

  /** Multiplies all rates. @param factor from 0 to 1. */
  decay(factor: number): void {
    for (const record of this.#records) {
      record.rate *= factor;
      record.inherited *= factor;
    }
    this.#floor *= factor;
  }

  /** Gives the record to another name, which is used for the first time. */
  #takeOver(record: Challenger, name: string): void {
    this.#byName.delete(record.name);
    this.#byName.set(name, record);
    record.name = name;
    record.inherited += record.rate;
    record.rate = 1;
  }

  /** Returns a record of the least weight. */
  #least(): Challenger {
    let least = Number.POSITIVE_INFINITY;
    for (let looked = 0; ; looked += 1) {
      // After a round the floor is the least weight there is, so that the second round finds it.
      if (looked === this.#records.length) this.#floor = least;
      this.#hand = (this.#hand + 1) % this.#records.length;
      const record = this.#records[this.#hand] as Challenger;
      const weight = record.rate + record.inherited;
      if (weight <= this.#floor) return record;
      least = Math.min(least, weight);
    }
  }
}
