import type { Order } from '../../../contracts/request-router.js';
import type { RoutableReplica } from '../replicas/candidate.js';
import { FifoOrder } from './fifo-order.js';
import { PerModelOrder } from './per-model-order.js';
import { PerRequestOrder } from './per-request-order.js';
import type { PlacementContext, PlacementOrder } from './placement-order.js';

/** @param goesByModel whether the router goes by the model alone; otherwise it is asked for each request. */
export function createOrder<R extends RoutableReplica>(
  order: Order,
  goesByModel: boolean,
  context: PlacementContext<R>,
): PlacementOrder<R> {
  if (order === 'fifo') return new FifoOrder(context, goesByModel);
  return goesByModel ? new PerModelOrder(context) : new PerRequestOrder(context);
}
