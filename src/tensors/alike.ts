import { agreeFrom, type ReadFeeds, type Tensor } from './tensor.js';

export function areSameNames(left: readonly string[] | undefined, right: readonly string[] | undefined): boolean {
  if (left === right) return true;
  return left?.length === right?.length && left?.every((name, index) => name === right?.[index]) === true;
}

/** Whether both have the same inputs, of the same types and the same dims from this axis on. */
export function areAlike(left: ReadFeeds, right: ReadFeeds, axis: number): boolean {
  let inputs = 0;
  for (const name in left) {
    const other = right[name];
    if (other === undefined || !agreeFrom(axis, left[name] as Tensor, other)) return false;
    inputs += 1;
  }
  for (const _ in right) inputs -= 1;
  return inputs === 0;
}
