/** A name, and the decayed number of its uses. */
export interface Used {
  readonly name: string;
  readonly rate: number;
}

/** A name that gets a place, and the one that loses it for that; undefined when the place is free. */
export interface ChangeOfPlace {
  readonly gains: string;
  readonly loses: string | undefined;
}

/** A challenger needs more than this many times the uses of a holder, and this many uses more. */
const CLEAR_LEAD = { factor: 2, uses: 8 };

/**
 * Decides which names get a place: the most used ones. A challenger gets the place of a holder only by a clear lead, so
 * that places do not go to and fro between names that are used alike.
 */
export function changesOfPlace(
  holders: readonly Used[],
  challengers: readonly Used[],
  places: number,
): readonly ChangeOfPlace[] {
  const changes: ChangeOfPlace[] = [];
  const free = places - holders.length;
  const leastUsed = [...holders].sort((left, right) => left.rate - right.rate);
  const mostUsed = [...challengers].sort((left, right) => right.rate - left.rate);
  for (const [index, { name, rate }] of mostUsed.entries()) {
    const holder = leastUsed[index - free];
    const isFree = index < free;
    const isBeaten = holder !== undefined && rate > CLEAR_LEAD.factor * holder.rate + CLEAR_LEAD.uses;
    if (!isFree && !isBeaten) break;
    changes.push({ gains: name, loses: isFree ? undefined : holder?.name });
  }
  return changes;
}
