import type { PendingRequestView, ReplicaView } from '../../contracts/request-router.js';

/** Replicas of equal preference. */
type Rank = readonly ReplicaView[];

/**
 * Splits the replicas into three ranks: those that have the model; among the others, those with the fewest models; and
 * the rest.
 *
 * @param candidates running replicas.
 * @param request the request to place.
 */
export function rankReplicasViaMultiplex(
  candidates: readonly ReplicaView[],
  { modelKey }: PendingRequestView,
): [warm: Rank, fewestModels: Rank, rest: Rank] {
  const [warm, cold] = divide(candidates, ({ models }) => models.has(modelKey));
  const fewest = Math.min(...cold.map(({ models }) => models.size));
  return [warm, ...divide(cold, ({ models }) => models.size === fewest)];
}

/**
 * Splits the replicas into three ranks: those whose label `device` has the same value as the request's, those whose
 * label `group` has, and the rest.
 *
 * @param candidates running replicas.
 * @param request the request to place.
 */
export function rankReplicasViaLocality(
  candidates: readonly ReplicaView[],
  { labels }: PendingRequestView,
): [sameDevice: Rank, sameGroup: Rank, rest: Rank] {
  const isSame = (label: string) => (replica: ReplicaView) =>
    labels[label] !== undefined && replica.labels[label] === labels[label];
  const [sameDevice, others] = divide(candidates, isSame('device'));
  return [sameDevice, ...divide(others, isSame('group'))];
}

/**
 * Returns the replicas that can take the request now. A replica that has to load the model must be idle. A replica that
 * has the model and will be free soon can take the request in advance, unless an idle replica has the model.
 *
 * @param candidates running replicas.
 * @param request the request to place.
 */
export function selectAvailableReplicas(
  candidates: readonly ReplicaView[],
  { modelKey }: PendingRequestView,
): ReplicaView[] {
  const available = candidates.filter(
    ({ ongoing, capacity, models }) => ongoing < capacity && (ongoing === 0 || models.has(modelKey)),
  );
  const isAnyWarmIdle = available.some(({ ongoing, models }) => ongoing === 0 && models.has(modelKey));
  return isAnyWarmIdle ? available.filter(({ ongoing }) => ongoing === 0) : available;
}

/**
 * Chooses two distinct replicas at random, every pair with the same probability, and returns them in the order of the
 * list. Returns all of them when there are at most two.
 *
 * @param random uniform in [0, 1).
 */
export function chooseTwo<R>(replicas: readonly R[], random: () => number = Math.random): R[] {
  const { length } = replicas;
  if (length <= 2) return [...replicas];
  const first = Math.floor(random() * length);
  // The second is drawn from one fewer and moved past the first, so that the two differ.
  const other = Math.floor(random() * (length - 1));
  const second = other < first ? other : other + 1;
  return [replicas[Math.min(first, second)] as R, replicas[Math.max(first, second)] as R];
}

function divide<T>(items: readonly T[], isFirst: (item: T) => boolean): [T[], T[]] {
  const [first, rest]: [T[], T[]] = [[], []];
  for (const item of items) (isFirst(item) ? first : rest).push(item);
  return [first, rest];
}
