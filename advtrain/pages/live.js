// The live page of a run: it only reloads, and stays paused

if (live) {
  live.querySelector('input').checked = Boolean(history.state?.paused);
  startLive();
}
