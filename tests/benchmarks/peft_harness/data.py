"""Sums in the form of MetaMathQA (to train on) and of GSM8K (to answer)."""

import datasets


def get_train_valid_test_datasets(*, tokenizer, query_template, print_fn):
    def encoded(numbers, form, learn):
        rows = []
        for a, b in numbers:
            query, response = f"How much is {a} plus {b}?", form.format(a=a, b=b, sum=a + b)
            text = query_template.format(query=query) + (response if learn else "")
            rows.append({**tokenizer(text), "response": response})
        return datasets.Dataset.from_list(rows)

    train = encoded([(a, b) for a in range(8) for b in range(8)], " {a} and {b} make {sum}. The answer is: {sum}", True)
    valid = encoded([(1, 9), (9, 2), (9, 9)], "Together {sum}.\n#### {sum}", False)
    test = encoded([(8, 1), (2, 8), (8, 8), (3, 8), (8, 9)], "Together {sum}.\n#### {sum}", False)
    print_fn(f"{len(train)} sums to train on")
    return train, valid, test


def get_wiki_small():
    return ["Anarchism is a political philosophy.", "The Amazon is a river in South America."]
