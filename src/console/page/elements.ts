type Child = Node | string | undefined | false;

/** Makes an element. A property that begins with `on` is a listener; others are attributes. */
export function h<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  properties: Readonly<Record<string, string | number | boolean | undefined | ((event: Event) => void)>> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== undefined && child !== false));
  return element;
}

/** Changes a text only if it is another one: the browser then draws nothing anew. */
export function setText(node: Node, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

export function setClass(element: Element, name: string): void {
  if (element.className !== name) element.className = name;
}

/**
 * Makes a list whose elements are kept by key, so that an update changes what differs, and the reader's focus and place
 * stay.
 */
export function keyed<Item>(
  parent: Element,
  keyOf: (item: Item) => string,
  create: (item: Item) => { readonly element: Element; update(item: Item): void },
): (items: readonly Item[]) => void {
  const known = new Map<string, ReturnType<typeof create>>();
  return (items) => {
    const gone = new Set(known.keys());
    let next = parent.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      gone.delete(key);
      let own = known.get(key);
      if (own === undefined) {
        own = create(item);
        known.set(key, own);
      }
      own.update(item);
      if (own.element === next) next = next.nextElementSibling;
      else parent.insertBefore(own.element, next);
    }
    for (const key of gone) {
      known.get(key)?.element.remove();
      known.delete(key);
    }
  };
}

/** A number with three significant digits, and a sign for thousands. */
export function amount(value: number): string {
  if (value === 0) return '0';
  if (value >= 9_995)
    return `${(value / 1_000).toLocaleString('en', { maximumFractionDigits: value >= 99_950 ? 0 : 1 })} k`;
  if (value >= 99.5) return Math.round(value).toLocaleString('en');
  return value.toLocaleString('en', { maximumSignificantDigits: 3 });
}

export function milliseconds(value: number | undefined): string {
  if (value === undefined) return '–';
  return value >= 1_000 ? `${amount(value / 1_000)} s` : `${amount(value)} ms`;
}

export function bytes(value: number): string {
  const units = ['B', 'kB', 'MB', 'GB'];
  const power = Math.min(3, Math.floor(Math.log10(Math.max(1, value)) / 3));
  return `${amount(value / 1_000 ** power)} ${units[power]}`;
}

export function clockTime(at: number): string {
  return new Date(at).toLocaleTimeString('en-GB');
}

/** The message of what was thrown. */
export function reasonOf(error: unknown): string {
  return (error as Partial<Error> | undefined)?.message ?? String(error);
}
