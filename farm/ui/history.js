// A click on a job shows it; the buttons beside it trigger an event of their own, to delete only after a confirmation.
element.addEventListener("click", async ({ target }) => {
  const button = target.closest("button[data-event]");
  if (!button) return;
  const { event, title } = button.dataset;
  if (event !== "delete" || (await confirmed(title))) trigger(event, { job_id: button.value });
});

// It is no part of the list, which is drawn anew while a job goes on.
function confirmed(title) {
  const dialog = document.createElement("dialog");
  dialog.id = "confirm";
  dialog.setAttribute("aria-labelledby", "confirm-title");
  dialog.innerHTML = `<form method="dialog"><h2 id="confirm-title">Delete this video?</h2><p class="title"></p>
    <p>It is deleted from the farm, with the files that you chose for it. If it is still being made, it is cancelled. This
    cannot be undone.</p><div><button value="" autofocus>Keep it</button><button value="delete">Delete it</button></div>
    </form>`;
  dialog.querySelector(".title").textContent = title;
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "delete");
    });
  });
}
