// Gradio's groups of radio buttons, which it leaves without a name, are called as their labels; and the page's language
// is said to screen readers, not the browser's.
() => {
  document.documentElement.lang = "en";
  const nameGroups = () => {
    for (const group of document.querySelectorAll("fieldset:not([aria-label])")) {
      const label = group.querySelector("[data-testid=block-info]");
      if (label) group.setAttribute("aria-label", label.textContent.trim());
    }
  };
  new MutationObserver(nameGroups).observe(document.body, { childList: true, subtree: true });
  nameGroups();
}
