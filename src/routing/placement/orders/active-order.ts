import type { Clock } from '../../../common/clock.js';
import type { Order } from '../../../contracts/request-router.js';
import type { RoutableReplica } from '../replicas/candidate.js';
import { FifoOrder } from './fifo-order.js';
import { PerModelOrder } from './per-model-order.js';
import { PerRequestOrder } from './per-request-order.js';
import type { PlacementContext, PlacementOrder } from './placement-order.js';

/** The order in force. It follows from the deployment's option, and from whether the router goes by models. */
export class ActiveOrder<R extends RoutableReplica> {
  readonly #context: Omit<PlacementContext<R>, 'nextTurn'>;
  readonly #clock: Clock;
  #inForce: PlacementOrder<R>;

  /** @param goesByModel whether the router goes by the model alone; otherwise it is asked for each request. */
  constructor(order: Order, goesByModel: boolean, context: Omit<PlacementContext<R>, 'nextTurn'>, clock: Clock) {
    this.#context = context;
    this.#clock = clock;
    this.#inForce = this.#create(order, goesByModel);
  }

  get inForce(): PlacementOrder<R> {
    return this.#inForce;
  }

  /** Puts another order in force. Place every waiting request after that. */
  use(order: Order, goesByModel: boolean): void {
    this.#inForce = this.#create(order, goesByModel);
  }

  #create(order: Order, goesByModel: boolean): PlacementOrder<R> {
    const context: PlacementContext<R> = {
      ...this.#context,
      nextTurn: (callback) => {
        this.#clock.nextTurn(() => {
          // Another order may be in force by then.
          if (this.#inForce === created) callback();
        });
      },
    };
    const created = createOrder(order, goesByModel, context);
    context.waiting.orderBy(created.isBefore);
    return created;
  }
}

function createOrder<R extends RoutableReplica>(
  order: Order,
  goesByModel: boolean,
  context: PlacementContext<R>,
): PlacementOrder<R> {
  if (order === 'fifo') return new FifoOrder(context, goesByModel);
  return goesByModel ? new PerModelOrder(context) : new PerRequestOrder(context);
}
