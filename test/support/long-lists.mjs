/** A proxy of a list that says another length each time, or one that is no length. */
const saying = (list, ...lengths) => {
  let reads = 0;
  const next = () => lengths[Math.min(reads++, lengths.length - 1)];
  return new Proxy(list, { get: (target, key) => (key === 'length' ? next() : target[key]) });
};

const endless = (list) => {
  const copy = [...list];
  copy[Symbol.iterator] = function* () {
    for (;;) yield list[0];
  };
  return copy;
};

const sparse = (list) => {
  const copy = [...list];
  copy.length = 2 ** 32 - 1;
  return copy;
};

/** Lists that must not be walked as they ask for it, made of a right one. */
export const LONG = {
  sparse,
  'of a billion': (list) => saying(list, 1e9),
  'of 2 million': (list) => new Array(2_100_000).fill(list[0]),
  'of no length': (list) => saying(list, Number.NaN),
  'of a negative length': (list) => saying(list, -1),
  'of half a length': (list) => saying(list, list.length + 0.5),
  'of a text as length': (list) => saying(list, '1e9'),
  'that throws': (list) =>
    new Proxy(list, {
      get: (target, key) => {
        if (key === 'length') throw new Error('no length');
        return target[key];
      },
    }),
};

/** Lists that are right when their length is read once, and endless otherwise. */
export const CHANGING = {
  'that grows': (list) => saying(list, list.length, 1e9),
  'that is endless to iterate': endless,
};
