/** What is asked of a page in the browser: programs that run there, as text. */

/** Texts whose contrast to their ground is below 4.5 : 1 (WCAG 2.2, 1.4.3), and keys below 3 : 1. */
export const LOW_CONTRAST = `(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const ratio = (a, b) => {
    const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const low = [];
  for (const element of document.body.querySelectorAll('*')) {
    if (element.closest('svg') !== null || element.getClientRects().length === 0) continue;
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== '');
    const isKey = element.classList.contains('key');
    if (!own && !isKey) continue;
    const found = ratio(channels(getComputedStyle(element).color), ground(isKey ? element.parentElement : element));
    if (found < (isKey ? 3 : 4.5)) low.push(element.className + ' ' + element.textContent + ' ' + found.toFixed(2));
  }
  return low;
})()`;

/** Elements that stand out of the window to the right. */
export const TOO_WIDE = `(() => {
  const wide = [...document.body.querySelectorAll('*')].filter((element) => {
    const { right, width } = element.getBoundingClientRect();
    return width > 0 && right > innerWidth + 0.5;
  });
  const page = document.documentElement.scrollWidth > innerWidth ? ['the page'] : [];
  return [...page, ...wide.map((element) => element.tagName + '.' + element.getAttribute('class'))];
})()`;

/** The plots as they were laid out. */
export const PLOTS = `[...document.querySelectorAll('figure svg')].map((svg) => ({
  title: svg.querySelector('title').textContent,
  words: svg.querySelector('desc').textContent,
  width: Math.round(svg.getBoundingClientRect().width),
  height: Math.round(svg.getBoundingClientRect().height),
  paths: svg.querySelectorAll('path:not(.grid)').length,
  drawn: [...svg.querySelectorAll('path:not(.grid)')].every((path) => path.getTotalLength() > 0),
  inside: [...svg.querySelectorAll('path')].every((path) => {
    const { x, y, width, height } = path.getBBox();
    const box = svg.viewBox.baseVal;
    return x >= 0 && y >= 0 && x + width <= box.width + 5 && y + height <= box.height;
  }),
}))`;

export const STATE = `({
  title: document.title,
  heading: document.querySelector('h1').textContent.trim(),
  checks: [...document.querySelectorAll('.checks li')].map((item) => item.textContent.trim().replace(/\\s+/g, ' ')),
  scripts: document.scripts.length,
  loud: getComputedStyle(document.querySelector('.dev')).backgroundColor,
  font: getComputedStyle(document.body).fontSize,
})`;

/** Pictures without a name that a screen reader could say. */
export const UNNAMED = `[...document.querySelectorAll('svg')]
  .filter((svg) => svg.getAttribute('aria-hidden') !== 'true')
  .filter((svg) => {
    const ids = (svg.getAttribute('aria-labelledby') ?? '').split(' ');
    return svg.getAttribute('role') !== 'img' || !ids.every((id) => document.getElementById(id)?.textContent);
  }).length`;
