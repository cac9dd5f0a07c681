// A click on a job shows it; the buttons beside it trigger an event of their own.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-event]");
  if (button) trigger(button.dataset.event, { job_id: button.value });
});
