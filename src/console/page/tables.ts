import { h, keyed, setClass, setText } from './elements.js';

export interface Column<Line> {
  readonly name: string;
  /** Numbers stand to the right. */
  readonly isNumber?: boolean;
  /** Sorts by this; a column without it cannot be sorted by. */
  readonly by?: (line: Line) => number | string;
  readonly text: (line: Line) => string;
  readonly href?: (line: Line) => string;
  readonly tone?: (line: Line) => string;
}

/** A table that can be sorted by a click, and is brought up to date line by line. */
export function table<Line>(
  label: string,
  columns: readonly Column<Line>[],
  keyOf: (line: Line) => string,
  empty: string,
): { readonly element: HTMLElement; update(lines: readonly Line[]): void } {
  let sorted: { readonly column: Column<Line>; readonly isDescending: boolean } | undefined;
  let lines: readonly Line[] = [];
  const body = h('tbody');
  const none = h('p', { class: 'faint' }, empty);
  const heads = columns.map((column) => {
    const sort = () => {
      sorted = { column, isDescending: sorted?.column === column ? !sorted.isDescending : column.isNumber === true };
      for (const [index, head] of heads.entries()) {
        if (columns[index] === column) head.setAttribute('aria-sort', sorted.isDescending ? 'descending' : 'ascending');
        else head.removeAttribute('aria-sort');
      }
      draw();
    };
    const name = column.by === undefined ? column.name : h('button', { type: 'button', onclick: sort }, column.name);
    return h('th', { scope: 'col', class: column.isNumber === true && 'number' }, name);
  });
  const drawn = keyed<Line>(body, keyOf, (first) => {
    const cells = columns.map(({ href }) => (href === undefined ? h('td') : h('a', { href: href(first) })));
    const boxes = cells.map((cell, index) => (columns[index]?.href === undefined ? cell : h('td', {}, cell)));
    return {
      element: h('tr', {}, ...boxes),
      update(line) {
        for (const [index, { text, tone, isNumber }] of columns.entries()) {
          const cell = cells[index] as HTMLElement;
          setText(cell, text(line));
          setClass(cell, `${isNumber === true ? 'number ' : ''}${tone?.(line) ?? ''}`.trim());
        }
      },
    };
  });
  const grid = h('table', { 'aria-label': label }, h('thead', {}, h('tr', {}, ...heads)), body);
  const draw = () => {
    none.hidden = lines.length > 0;
    grid.hidden = lines.length === 0;
    drawn(sorted === undefined ? lines : sortedBy(lines, sorted.column, sorted.isDescending));
  };
  return {
    element: h('div', { class: 'scroll' }, grid, none),
    update(next) {
      lines = next;
      draw();
    },
  };
}

function sortedBy<Line>(lines: readonly Line[], { by }: Column<Line>, isDescending: boolean): readonly Line[] {
  const value = by ?? (() => 0);
  const order = (left: Line, right: Line) => {
    const [a, b] = [value(left), value(right)];
    return a < b ? -1 : a > b ? 1 : 0;
  };
  return [...lines].sort((left, right) => (isDescending ? order(right, left) : order(left, right)));
}
