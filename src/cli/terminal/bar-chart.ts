import { printable } from './printable.js';

/** One bar and its group. */
export interface Bar {
  readonly group: string;
  readonly label: string;
  readonly value: number;
}

const WIDTH = 720;
const ROW = 22;
const LEFT = 250;
const RIGHT = 90;
const COLOURS = ['#2563eb', '#94a3b8', '#f59e0b', '#10b981', '#a855f7', '#64748b', '#ef4444'];

/**
 * Draws horizontal bars in groups, as SVG, all on one scale or each group on its own.
 *
 * No small, maintained library draws without a browser, and the task is small: text and rectangles.
 */
export function barChart(title: string, unit: string, bars: readonly Bar[], scale: 'one' | 'own' = 'one'): string {
  const groups = [...new Set(bars.map(({ group }) => group))];
  const labels = [...new Set(bars.map(({ label }) => label))];
  const parts: string[] = [];
  let y = 56;
  for (const group of groups) {
    parts.push(text(12, y, group, 'font-weight="600"'));
    y += ROW;
    const own = bars.filter((bar) => bar.group === group);
    const most = Math.max(...(scale === 'own' ? own : bars).map(({ value }) => value), Number.MIN_VALUE);
    for (const bar of own) {
      const width = Math.max(1, ((WIDTH - LEFT - RIGHT) * bar.value) / most);
      const colour = COLOURS[labels.indexOf(bar.label) % COLOURS.length];
      parts.push(
        text(LEFT - 8, y, bar.label, 'text-anchor="end"'),
        `<rect x="${LEFT}" y="${y - 12}" width="${width.toFixed(1)}" height="15" rx="2" fill="${colour}"/>`,
        text(LEFT + width + 6, y, formatted(bar.value), ''),
      );
      y += ROW;
    }
    y += 8;
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" font-family="system-ui, sans-serif" font-size="12">`,
    `<title>${escaped(`${title}, ${unit}`)}</title>`,
    '<rect width="100%" height="100%" fill="#ffffff"/>',
    text(12, 24, title, 'font-size="15" font-weight="600"'),
    text(WIDTH - 12, 24, unit, 'text-anchor="end" fill="#475569"'),
    ...parts,
    '</svg>\n',
  ].join('\n');
}

/** Formats a value with three significant digits, whatever its size. */
function formatted(value: number): string {
  return Number(value.toPrecision(3)).toLocaleString('en');
}

function text(x: number, y: number, content: string, attributes: string): string {
  const fill = attributes.includes('fill=') ? '' : ' fill="#0f172a"';
  return `<text x="${x.toFixed(1)}" y="${y}"${fill}${attributes === '' ? '' : ` ${attributes}`}>${escaped(content)}</text>`;
}

function escaped(content: string): string {
  return printable(content).replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
