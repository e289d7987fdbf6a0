/**
 * Keeps the focus in its part of the page when what had it goes: a sale ends while somebody is about to press its button. A
 * part is an element with `data-home`.
 */
let last: { readonly element: Element; readonly home: HTMLElement } | null = null;

document.addEventListener("focusin", (event) => {
  const path = event.composedPath();
  const element = path[0];
  const home = path.find((it): it is HTMLElement => it instanceof HTMLElement && it.dataset["home"] !== undefined);
  last = element instanceof Element && home !== undefined ? { element, home } : null;
});

export function keepFocus(): void {
  if (last === null || last.element.isConnected || deepest() !== null) return;
  last.home.focus({ preventScroll: true });
}

/** What has the focus, also within shadow trees; null when nothing has. */
export function deepest(): Element | null {
  let element: Element | null = document.activeElement;
  while (element?.shadowRoot?.activeElement != null) element = element.shadowRoot.activeElement;
  return element === document.body || element === null ? null : element;
}
