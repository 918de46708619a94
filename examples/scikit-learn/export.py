# How such a model is made, with scikit-learn and skl2onnx. zipmap=False: probabilities come as a tensor.
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

columns = ColumnTransformer([("plan", OneHotEncoder(handle_unknown="ignore"), ["plan"])], remainder="passthrough")
model = make_pipeline(columns, LogisticRegression()).fit(customers[["plan", "usage"]], customers["stays"])
onnx = to_onnx(
    model,
    initial_types=[("plan", StringTensorType([None, 1])), ("usage", FloatTensorType([None, 1]))],
    options={"zipmap": False},
)
open("models/churn.onnx", "wb").write(onnx.SerializeToString())
