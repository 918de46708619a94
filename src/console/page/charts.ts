import type uPlotType from 'uplot';
import { clockTime, h } from './elements.js';

declare const uPlot: typeof uPlotType;

/** Seconds that a chart shows at most, and at least. */
const SECONDS = 300;
const LEAST_SECONDS = 60;
const HEIGHT = 170;
const TONES = ['first', 'second', 'third'] as const;

const short = (value: number) => value.toLocaleString('en', { notation: 'compact' });

/** A line of a chart. */
export interface Series {
  readonly name: string;
  readonly unit?: string;
}

/** A chart of the last minutes, to which one point a second is added. It is drawn only while it can be seen. */
export class Chart {
  readonly element: HTMLElement;
  readonly #place = h('div', { class: 'chart' });
  readonly #series: readonly Series[];
  readonly #points: (number | null)[][];
  #plot: uPlotType | undefined;
  readonly #resized = new ResizeObserver(() => this.#resize());

  constructor(title: string, series: readonly Series[]) {
    this.#series = series;
    this.#points = [[], ...series.map(() => [])];
    const key = series.map(({ name }, index) => h('span', { class: TONES[index] }, name));
    this.element = h(
      'section',
      { class: 'card', 'aria-label': title },
      h('h2', {}, title),
      h('p', { class: 'key', 'aria-hidden': 'true' }, ...key),
      this.#place,
    );
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#restyle());
  }

  /** @param at milliseconds since the Unix epoch. */
  add(at: number, values: readonly (number | undefined)[]): void {
    const row = [at / 1_000, ...values.map((value) => value ?? null)];
    for (const [index, value] of row.entries()) {
      this.#points[index]?.push(value);
      if ((this.#points[index]?.length ?? 0) > SECONDS) this.#points[index]?.shift();
    }
    if (this.element.isConnected) this.draw();
  }

  draw(): void {
    this.#plot ??= this.#create();
    const [times = []] = this.#points;
    const [first, last] = [times[0] ?? 0, times.at(-1) ?? 0];
    this.#plot.batch(() => {
      this.#plot?.setData(this.#points as uPlotType.AlignedData, true);
      this.#plot?.setScale('x', { min: Math.min(first, last - LEAST_SECONDS), max: last });
    });
  }

  #create(): uPlotType {
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
    const axis = { stroke: colour('faint'), grid: { stroke: colour('line'), width: 1 }, ticks: { show: false } };
    this.#resized.observe(this.#place);
    return new uPlot(
      {
        width: Math.max(200, this.#place.clientWidth),
        height: HEIGHT,
        legend: { show: false },
        cursor: { show: false },
        scales: { y: { range: (_plot, _low, high) => [0, Math.max(1, (high ?? 0) * 1.1)] } },
        axes: [
          { ...axis, space: 80, size: 28, values: (_plot, ticks) => ticks.map((tick) => clockTime(1_000 * tick)) },
          { ...axis, size: 52, values: (_plot, ticks) => ticks.map(short) },
        ],
        series: [
          {},
          ...this.#series.map((_, index) => ({
            stroke: colour(TONES[index] ?? 'first'),
            width: 2,
            points: { show: false },
            spanGaps: false,
          })),
        ],
      },
      this.#points as uPlotType.AlignedData,
      this.#place,
    );
  }

  #resize(): void {
    const { clientWidth } = this.#place;
    if (clientWidth > 0 && this.#plot !== undefined && this.#plot.width !== clientWidth)
      this.#plot.setSize({ width: clientWidth, height: HEIGHT });
  }

  /** Colours are those of the moment at which a plot is made. */
  #restyle(): void {
    this.#plot?.destroy();
    this.#plot = undefined;
    if (this.element.isConnected) this.draw();
  }
}
