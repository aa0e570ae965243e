// Reload a live page, unless its reader pauses it, selects text or looks elsewhere
'use strict';

const byId = id => document.getElementById(id);
const live = byId('live');

function age(seconds) {
  return seconds < 100 ? `${Math.max(0, Math.round(seconds))} s` : seconds < 6000 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

function startLive(remember = () => {}) {
  const pause = live.querySelector('input'), text = live.querySelector('p'), every = Number(live.dataset.every);
  const since = new Date(document.querySelector('time').dateTime);
  const say = () => { text.textContent = `${pause.checked ? 'Paused' : `This page reloads every ${every} seconds`}. Last written ${age((Date.now() - since) / 1000)} ago.`; };
  const busy = () => document.hidden || !getSelection().isCollapsed; // Hidden, or somebody is selecting text
  const read = () => {
    if (pause.checked || busy()) return;
    remember();
    location.reload();
  };
  live.querySelector('label').hidden = false;
  pause.addEventListener('change', () => {
    say();
    history.replaceState({paused: pause.checked}, '');
  });
  setInterval(() => { say(); read(); }, 1000 * every);
  document.addEventListener('visibilitychange', () => { if (Date.now() - performance.timeOrigin > 1000 * every) read(); });
  say();
}
