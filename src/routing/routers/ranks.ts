import type { PendingRequestView, ReplicaView } from '../../contracts/request-router.js';

/** Replicas of equal preference. */
type Rank = readonly ReplicaView[];

/** Those that have the request's model or load it; of the others those with the fewest models; the rest. */
export function rankReplicasViaMultiplex(
  candidates: readonly ReplicaView[],
  { modelKey }: PendingRequestView,
): [warm: Rank, fewestModels: Rank, rest: Rank] {
  const [warm, cold] = divide(candidates, ({ models }) => models.has(modelKey));
  const fewest = Math.min(...cold.map(({ models }) => models.size));
  return [warm, ...divide(cold, ({ models }) => models.size === fewest)];
}

/** Those whose label `device` is the request's; of the others those whose `group` is; the rest. */
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
 * Those that can take the request now. One that is to load the model has to be idle for it; one that is about to be free can
 * take the request ahead, unless an idle one has the model.
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
 * Two distinct ones drawn at random, every pair as likely as any other, in the order in which they are listed; all of them if
 * there are no more than two.
 *
 * @param random uniform in [0, 1).
 */
export function chooseTwo<R>(replicas: readonly R[], random: () => number = Math.random): R[] {
  const { length } = replicas;
  if (length <= 2) return [...replicas];
  const first = Math.floor(random() * length);
  // Drawn from one fewer and moved past the first, so that the two differ.
  const other = Math.floor(random() * (length - 1));
  const second = other < first ? other : other + 1;
  return [replicas[Math.min(first, second)] as R, replicas[Math.max(first, second)] as R];
}

function divide<T>(items: readonly T[], isFirst: (item: T) => boolean): [T[], T[]] {
  const [first, rest]: [T[], T[]] = [[], []];
  for (const item of items) (isFirst(item) ? first : rest).push(item);
  return [first, rest];
}
