// Moves the bar of a task that runs, and loads the page again once it is done. Without it there is a link for that.
"use strict";

const bar = document.querySelector("progress[data-from]");

async function look() {
  try {
    const answer = await fetch(bar.dataset.from, { headers: { Accept: "application/json" } });
    const told = await answer.json();
    if (!told.is_running) {
      location.reload();
      return;
    }
    if (told.total > 0) {
      bar.max = told.total;
      bar.value = told.done;
      document.querySelector("[data-progress-text]").textContent = told.message;
    }
  } catch {
    // the site is away for a moment, or somebody has logged out: the next look tells
  }
  setTimeout(look, 2000);
}

if (bar) setTimeout(look, 1000);
