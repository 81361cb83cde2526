"""LeNet-5 among scikit-learn's tools: search, cross-validation, a report."""

from sklearn.datasets import load_digits
from sklearn.metrics import classification_report
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split

from lenet5c import LeNet5Classifier

X, y = load_digits(return_X_y=True)  # (1797, 64), 0 to 16
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

search = GridSearchCV(
    LeNet5Classifier(max_iter=10, random_state=0),
    {"activation": ["tanh", "relu"], "batch_size": [32, 64]},
    cv=3,
    n_jobs=2,  # two fits at a time; each takes its share of the CPUs
)
search.fit(X_train, y_train)
best = search.best_estimator_
print("best parameters", search.best_params_)
print(f"test accuracy {best.score(X_test, y_test):.1%}")

scores = cross_val_score(best, X_train, y_train, cv=3)
print(f"cross-validation {scores.mean():.1%} +- {scores.std():.1%}")

print(classification_report(y_test, best.predict(X_test)))
