export default function Page() {
  return <p>POST 64 numbers to /api/digits.</p>;
}
