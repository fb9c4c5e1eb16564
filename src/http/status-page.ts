/**
 * The status page: one HTML document that needs nothing else, and runs no script. Its style is inline
 * and allowed by its hash; everything that is data is escaped by `html`.
 */
import { createHash } from 'node:crypto';

import type { Status } from '../contract/status.ts';
import { Markup, NOTHING, html } from './markup.ts';
import { developmentNotice, factsSection, stateSection } from './status-facts.ts';
import { plotsSection } from './status-plots.ts';
import { STYLE } from './status-style.ts';

const REFRESH_S = 10;

const styleHash = createHash('sha256').update(STYLE).digest('base64');

export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${styleHash}'`,
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const STYLE_ELEMENT = Markup.constant(`<style>${STYLE}</style>`);

/** Two halves that hold each other. */
const MARK = html`<svg viewBox="0 0 26 18" aria-hidden="true">
  <path class="first" d="M9 0a9 9 0 1 0 4 17.06A9 9 0 0 1 13 .94 9 9 0 0 0 9 0z" />
  <path class="second" d="M17 0a9 9 0 0 0-4 .94 9 9 0 0 1 0 16.12A9 9 0 1 0 17 0z" />
</svg>`;

/** In the colour of the state, so that a row of tabs tells it. */
function icon(ready: boolean): string {
  const shape = ready
    ? '<circle cx="8" cy="8" r="7" fill="#1f9d61"/>'
    : '<path d="M8 0l8 8-8 8-8-8z" fill="#d43a2f"/>';
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">${shape}</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

function head({ product, zone, readiness: { ready } }: Status, refresh: boolean): Markup {
  return html`<head>
    <meta charset="utf-8" />
    <title>${ready ? 'Ready' : 'Not ready'} · ${zone} · ${product}</title>
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <meta name="color-scheme" content="light dark" />
    ${refresh ? html`<meta http-equiv="refresh" content="${REFRESH_S}" />` : NOTHING}
    <link rel="icon" href="${icon(ready)}" />
    ${STYLE_ELEMENT}
  </head>`;
}

const renewal = (refresh: boolean): Markup =>
  refresh
    ? html`Renews every ${REFRESH_S} s. <a href="/?refresh=off">Hold still</a>`
    : html`Holds still. <a href="/">Renew every ${REFRESH_S} s</a>`;

/** `2026-11-28T08:41:07.123Z` as `08:41:07 UTC`. */
const clockText = (time: string): string => `${time.slice(11, 19)} UTC`;

const FOOTER = html`<footer>
  <p class="wide">
    Shown without a token to whoever reaches the metrics listener: no secret, no key, no caller. For
    machines: the same as JSON with <code>Accept: application/json</code>, and figures at
    <a href="/metrics">/metrics</a>.
  </p>
</footer>`;

/** @param refresh whether the page renews itself */
export function statusPage(status: Status, refresh: boolean): string {
  return html`<!doctype html>
    <html lang="en">
      ${head(status, refresh)}
      <body>
        ${developmentNotice(status)}
        <header class="wide top">
          <p class="brand">${MARK} ${status.product}</p>
          <p class="note">
            <time datetime="${status.time}">${clockText(status.time)}</time> · ${renewal(refresh)}
          </p>
        </header>
        <main class="wide">
          ${stateSection(status)} ${plotsSection(status)} ${factsSection(status)}
        </main>
        ${FOOTER}
      </body>
    </html> `.text;
}
